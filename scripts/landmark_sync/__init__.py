"""Training of the lip-sync expert that looks at landmarks; see scripts/train_landmark_sync.py."""

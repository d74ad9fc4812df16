"""Numbers that say how good a clip is: pure functions of its pictures, landmarks, sound and embeddings."""

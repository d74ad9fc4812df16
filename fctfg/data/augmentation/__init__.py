"""Small random changes of talking clips that keep picture, sound and labels together, on the training device."""

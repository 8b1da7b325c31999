"""What a network costs and sees, before it is trained."""

"""What an operator or a network costs and sees, without running it."""

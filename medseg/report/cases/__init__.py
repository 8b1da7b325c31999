"""What a case's files hold, drawn: the same slices in every arm, and a viewer in 3-D."""

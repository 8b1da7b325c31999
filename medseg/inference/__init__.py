"""A trained network applied to volumes: prediction on files and in memory."""

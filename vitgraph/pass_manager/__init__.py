"""What a pass is, and how passes are run, watched, compared and bisected."""

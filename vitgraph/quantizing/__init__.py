"""What calibration images show, the scales that follow from it, and what quantizing costs."""

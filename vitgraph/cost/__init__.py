"""What a program costs: what is counted, how papers count it, and estimates of time and energy by target."""

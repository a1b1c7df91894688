"""What commands leave on disk: checked before the work, there whole or not at all, and never at the cost of what is not ours."""

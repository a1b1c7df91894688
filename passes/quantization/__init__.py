"""Q/DQ pairs, their scales, and what makes values easier to quantize."""

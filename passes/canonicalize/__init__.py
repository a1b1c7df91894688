"""`canonicalize`, and its rules by the kind of operator."""

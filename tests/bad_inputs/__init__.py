"""Wrong inputs, class by class: each must be answered, not survived by luck."""

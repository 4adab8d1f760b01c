"""What a slot of a ring holds, and how Python values get in and out."""

"""The content of ring slots, and how Python values get in and out."""

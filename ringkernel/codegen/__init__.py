"""From Python functions to machine code: operations, specialisation, spans, checks."""

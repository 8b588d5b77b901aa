"""One loss, one file, one source. Pure maths in torch."""

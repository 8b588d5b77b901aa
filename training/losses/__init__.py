"""One loss, one file, one source; `pu` holds three that share their correction. Pure maths in torch."""

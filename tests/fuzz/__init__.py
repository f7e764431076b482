"""Whatever bytes come in from outside, nothing but the error comes out that is documented."""

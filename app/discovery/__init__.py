"""The pure middle: snapshots, settings and the time in, decisions and target groups out."""

"""`python -m workshop.study`: the findings of Objects that Sound, measured again on a small rendered world."""

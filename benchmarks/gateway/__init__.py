"""How many conversations one core carries, and what each costs."""

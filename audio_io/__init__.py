"""Sound in and out; knows no model and no protocol."""

"""Models behind one interface (`engine.py`); one module or folder per engine."""

"""How well does a model do on recordings whose right answers are known?"""

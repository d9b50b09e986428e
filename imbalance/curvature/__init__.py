"""Curvature of any loss by operators, and class blocks of a softmax layer in closed form."""

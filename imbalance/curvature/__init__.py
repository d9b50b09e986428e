"""Curvature: operators on any loss, and the class blocks of a softmax layer in closed form."""

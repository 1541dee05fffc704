"""Automatic and manual deploys: the comparison of models, the rule and the announcement."""

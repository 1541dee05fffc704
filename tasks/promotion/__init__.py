"""Which model goes live: the comparison, the rule, automatic and manual deploys."""

"""The embedded default: tiny real experts, each good at one skill, with the recipe that trains them."""

"""One module a skill: what it asks (`draw`), and how its answers are judged."""

"""Starting, watching and stopping the servers that experts live in."""

"""Sound files as people have them: opened by content, decoded once, never cut short without a word."""

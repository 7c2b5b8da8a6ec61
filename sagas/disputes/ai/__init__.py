"""Who says what a complaint is about and whether a rationale will do: a model, or rules; a setting chooses."""

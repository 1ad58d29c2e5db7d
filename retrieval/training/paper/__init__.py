"""The paper's cases, trained and measured again."""

"""What a system answers: its questions, its format of prompts, and TOFU's and multiple choice's measures of it."""

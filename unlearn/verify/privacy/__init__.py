"""Can it still be told what was trained on: by a score of the text, or by what changed between before and after?"""

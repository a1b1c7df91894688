"""Files made to run code, fill memory or never end: nothing of them runs, and each is answered soon and small."""

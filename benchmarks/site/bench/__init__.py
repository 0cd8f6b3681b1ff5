"""The site that every contender serves: one project, so that only what is compared differs."""

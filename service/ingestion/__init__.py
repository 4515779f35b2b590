"""The use case of live events: judge each by the team's rules, keep the good ones, tell what became of them."""

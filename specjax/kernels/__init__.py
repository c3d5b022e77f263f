"""Which leaf is which linear map: the rules, and where a rule meets a tree."""

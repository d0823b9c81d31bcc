"""How users show who they are: passwords (Basic), own tokens, tokens of an identity provider."""

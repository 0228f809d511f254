"""What a user asks for in one call: an audit of classifiers, a look at one image."""

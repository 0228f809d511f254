"""What each instrument must say of classifiers whose strategy is known: a planted truth, and a planted absence."""

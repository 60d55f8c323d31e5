"""The agent service: it decides who answers, runs the answer, and sees that it ends."""

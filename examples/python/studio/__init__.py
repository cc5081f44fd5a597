"""One program that chats and paints through the broker, with six boxes as one, and says what it saw of that."""

"""What is stored: facts, adapters, memories and banks; nothing else knows the format."""

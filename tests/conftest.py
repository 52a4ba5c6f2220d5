"""What every test may ask for. (Fixtures follow.)"""

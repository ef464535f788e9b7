"""The teacher: backbones to imitate, pictures to imitate them on, and the distillation itself."""

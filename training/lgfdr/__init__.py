"""LGFDR: a detector that rebuilds pretrained features with a local and a global tower and scores what it cannot rebuild.

Source: Chen et al., "Local and global feature denoising reconstruction", The Visual Computer 2024,
doi 10.1007/s00371-024-03281-x. Its public text says: pretrained features are reconstructed; a dual tower rebuilds local and
global features; a selective reconstruction head (SRH) fuses both reconstructions adaptively; noise is added to the features. It
gives neither the backbone and its layers, nor the head's formula, the noise's law, the losses or the schedule, and no code was
published. All of these are our reading here, and each is a knob (`training.lgfdr.knobs`): an ablation is a run with another knob.
"""

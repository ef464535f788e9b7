"""LGFDR as a graph: the same contract, certificate and bundle as every other detector; only this pass knows its layers."""

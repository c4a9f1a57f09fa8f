"""HappyMaps: train small face networks reproducibly and see what every neuron learned."""

"""All that is asked of nnU-Net: its folders, data sets, commands, images, trainers."""

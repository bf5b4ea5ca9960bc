"""What a bag gives, and whether that is all of a drive."""
import bags
import yaml

from zoe_ros.bag import BagError, BagReader, is_bag


def read(path, topic=None):
    """Return stamps of the images of a bag, of their CameraInfo, and what is said at the end."""
    stamps, infos, said = [], [], ''
    with BagReader(path, topic) as bag:
        assert is_bag(path)
        try:
            for image in bag:
                stamps.append(bags.key(image.message)[0])
                infos.append(bag.infos.find(image.message.header))
        except BagError as error:
            said = str(error)
            assert str(path) in said and '\n' not in said
    return stamps, [info is not None and bags.key(info)[0] for info in infos], said


def check_whole(path, count=3):
    """Check that all images of a bag are read, each with its own CameraInfo."""
    expected = bags.stamps(count)
    assert read(path) == (expected, expected, '')


def change_metadata(path, **changes):
    """Change entries of a bag's metadata."""
    file = path / 'metadata.yaml'
    content = yaml.safe_load(file.read_text())
    content['rosbag2_bagfile_information'].update(changes)
    file.write_text(yaml.safe_dump(content))

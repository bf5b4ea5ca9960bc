"""What the node publishes on each topic, and that nothing is computed for nobody."""
import re

from bags import cloud_points
import compressed_depth
from diagnostic_msgs.msg import DiagnosticStatus
from node_messages import array_of, info_for, JUMP, raw_image
import numpy as np
from ros_support import Client, OUTPUTS


def test_while_nobody_listens_nothing_is_computed(raw_node, photos):
    with Client(raw_node, compressed=False, outputs=()) as client:
        client.wait_for_match()
        client.next_report(lambda status, values: values['message'] == 'nobody listens')
        reports = len(client.reports)
        client.ask_until(
            raw_image(photos[0]), lambda: len(client.reports) > reports + 5, interval=0.05)
        for status in client.reports[reports:]:
            values = {pair.key: pair.value for pair in status.values}
            assert status.level == DiagnosticStatus.OK
            assert values['rate out [Hz]'] == '0.00'
            assert not any(key.startswith(('network', 'decode', 'age')) for key in values)
        assert float(values['rate in [Hz]']) > 0
        # One listener, of the smallest output, and the network runs.
        client.listen('depth/head')
        client.ask_until(raw_image(photos[0]), lambda: client.received['depth/head'], interval=0.5)
        values = client.next_report(lambda status, values: 'network p50 [ms]' in values)
        assert float(values['rate out [Hz]']) > 0
        client.deafen('depth/head')
        client.next_report(lambda status, values: values['message'] == 'nobody listens')
        assert not any(client.received[name] for name in OUTPUTS if name != 'depth/head')


def test_all_outputs_agree(full, photos):
    photo = photos[0]
    height, width = photo.shape[:2]
    image, info = raw_image(photo, stamp=7.25, frame='eye'), info_for(photo, frame='eye')
    full.ask(image, info, tuple(OUTPUTS))
    got = {name: messages[-1] for name, messages in full.received.items()}
    assert all(len(messages) == 1 for messages in full.received.values())
    for name in set(OUTPUTS) - {'depth/head'}:
        assert got[name].header == image.header, name
    encodings = {'depth/image': '32FC1', 'depth/image_raw': '16UC1',
                 'depth/image_colored': 'rgb8', 'depth/uncertainty': '32FC1'}
    pixel = {'32FC1': 4, '16UC1': 2, 'rgb8': 3}
    for name, encoding in encodings.items():
        message = got[name]
        assert (message.encoding, message.height, message.width, message.step,
                message.is_bigendian) == (encoding, height, width, width * pixel[encoding], 0)
        assert len(message.data) == height * message.step
    depth = array_of(got['depth/image'])
    assert np.isfinite(depth).mean() > 0.9
    np.testing.assert_array_equal(array_of(got['depth/image_raw']),
                                  np.rint(np.nan_to_num(depth) * 1000).clip(0, 65535))
    np.testing.assert_allclose(compressed_depth.read(got['depth/image/compressedDepth']),
                               depth, atol=0.0005 + 1e-6)
    deviation = array_of(got['depth/uncertainty'])
    np.testing.assert_array_equal(np.isfinite(deviation), np.isfinite(depth))
    assert np.nanmin(deviation) >= 0
    assert np.nanmedian(deviation) > 0
    # One colour is one depth, to a 255th of the scale.
    colors = array_of(got['depth/image_colored']).reshape(-1, 3)
    assert len(np.unique(colors, axis=0)) > 10
    cloud = cloud_points(got['depth/points'])
    np.testing.assert_array_equal(cloud[..., 2], depth[::4, ::4])
    message = got['depth/points']
    packed = np.frombuffer(bytes(message.data), '<u4').reshape(*cloud.shape[:2], 4)[..., 3]
    np.testing.assert_array_equal(
        packed, photo[::4, ::4].astype(np.uint32) @ np.array([65536, 256, 1], np.uint32))
    assert (message.point_step, message.row_step) == (16, 16 * cloud.shape[1])
    info.header = image.header
    assert got['depth/camera_info'] == info
    head, probability = got['depth/head'].data.split()
    assert re.fullmatch(r'[01]\.\d{3}', probability)
    assert head in ('indoor', 'outdoor')
    assert 0.4 <= float(probability) <= 1


def test_each_output_alone_is_what_it_is_among_all(raw_node, photos):
    image, info = raw_image(photos[0], stamp=7.25), info_for(photos[0], stamp=7.25)
    with Client(raw_node, compressed=False, outputs=tuple(OUTPUTS)) as client:
        client.wait_for_match()
        client.ask(image, info, tuple(OUTPUTS))
        among_all = {name: messages[-1] for name, messages in client.received.items()}
        for name in OUTPUTS:
            client.deafen(name)
        client.clear()
        for name in OUTPUTS:
            client.next_report(lambda status, values: values['message'] == 'nobody listens')
            client.listen(name)
            client.ask_until(image, lambda name=name: client.received[name], info, 0.5, name)
            assert client.received[name][-1] == among_all[name]
            assert not any(client.received[other] for other in OUTPUTS if other != name)
            client.deafen(name)
            client.clear()


def test_a_depth_image_of_16_bits_saturates_and_has_0_for_no_value(full, photos):
    outputs = ('depth/image', 'depth/image_raw')
    assert full.change(depth_scale=100.0, edge_threshold=JUMP) == ['', '']
    full.ask(raw_image(photos[0]), outputs=outputs)
    depth, millimetres = (array_of(full.received[name][-1]) for name in outputs)
    assert np.isnan(depth).any()
    assert (depth > 65.535).any()
    np.testing.assert_array_equal(millimetres[np.isnan(depth)], 0)
    np.testing.assert_array_equal(millimetres[depth > 65.535], 65535)

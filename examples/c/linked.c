/* A program that links the plugin for sealing, so that no folder of plugins has to be found: it says what it has.
 *
 *   cc -o linked examples/c/linked.c $(pkg-config --cflags --libs gstreamer-1.0 gstsframe)
 *
 * sframe, rtpsframe, mls and compliance can each be linked like this. */

#include <gst/gst.h>

GST_PLUGIN_STATIC_DECLARE(sframe);

int main(int argc, char **argv) {
  const char *names[] = {"sframeenc", "sframedec"};

  gst_init(&argc, &argv);
  GST_PLUGIN_STATIC_REGISTER(sframe);
  for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
    GstElementFactory *factory = gst_element_factory_find(names[i]);
    if (factory == NULL) {
      g_printerr("no element %s\n", names[i]);
      return 1;
    }
    g_print("%s: %s\n", names[i], gst_element_factory_get_metadata(factory, GST_ELEMENT_METADATA_LONGNAME));
    gst_object_unref(factory);
  }
  return 0;
}

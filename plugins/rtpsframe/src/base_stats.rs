//! Lets an element add its counters to the `stats` structure of its GStreamer base class, which applications
//! such as RTSP servers already read.

use gst::glib::{self, gobject_ffi, prelude::*, translate::*};
use gst::subclass::prelude::*;

/// The property that both RTP base classes have.
pub const NAME: &str = "stats";

/// Overrides the base class' `stats`, so that [`read`] and the element's own `property()` meet.
pub fn param_spec<B: IsA<glib::Object> + glib::object::IsClass>() -> glib::ParamSpec {
    glib::ParamSpecOverride::for_class::<B>(NAME)
}

/// The `stats` of the base class, as if they were not overridden.
pub fn read<T: ObjectSubclass>(imp: &T) -> gst::Structure
where
    T::Type: IsA<glib::Object>,
{
    let mut value = glib::Value::for_value_type::<Option<gst::Structure>>();
    let object = imp.obj();
    // SAFETY: the parent class outlives its subclass. `find_property` on it gives the base class' own parameter
    // specification, whose id its own `get_property` expects together with a value of the specified type.
    unsafe {
        let class = T::type_data().as_ref().parent_class() as *mut gobject_ffi::GObjectClass;
        let spec = gobject_ffi::g_object_class_find_property(class, NAME.to_glib_none().0);
        if let (false, Some(get)) = (spec.is_null(), (*class).get_property) {
            let object = object.upcast_ref::<glib::Object>().to_glib_none().0;
            get(object, (*spec).param_id, value.to_glib_none_mut().0, spec);
        }
    }
    value
        .get::<Option<gst::Structure>>()
        .ok()
        .flatten()
        .unwrap_or_else(|| gst::Structure::new_empty(NAME))
}
